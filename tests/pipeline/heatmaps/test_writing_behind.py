"""Writing in a second thread: all is written at the end, in order, what it cost is added up, and an error is raised."""

import threading

import pytest

from pairscape.pipeline.heatmaps.count import MAX_WAITING, Spent, writing_behind


def test_all_is_written_in_order_when_the_block_ends():
    spent, written = Spent(counting=1.0), []

    def publish(number):
        written.append((number, threading.current_thread()))
        return Spent(bytes_written=10, writing=0.5)

    with writing_behind(spent) as write:
        for number in range(7):
            write(publish, number)
    assert [number for number, _ in written] == list(range(7))
    assert {thread for _, thread in written} != {threading.current_thread()}
    assert (spent.bytes_written, spent.writing, spent.counting) == (70, 3.5, 1.0)


@pytest.mark.parametrize("failing", [0, 6])
def test_an_error_of_the_writer_is_raised_at_the_latest_at_the_end(failing):
    def publish(number):
        if number == failing:
            raise OSError(28, "No space left on device")
        return Spent()

    def make():
        with writing_behind(Spent()) as write:
            for number in range(7):
                write(publish, number)

    with pytest.raises(OSError, match="No space left"):
        make()


def test_what_waits_for_the_disk_is_bounded():
    opened, entered, waiting = threading.Event(), threading.Semaphore(0), []

    def publish(number):
        opened.wait(30)
        waiting.remove(number)
        return Spent()

    def make(write):
        for number in range(10):
            waiting.append(number)
            entered.release()
            write(publish, number)

    with writing_behind(Spent()) as write:
        maker = threading.Thread(target=make, args=(write,))
        maker.start()
        made = sum(entered.acquire(timeout=1) for _ in range(MAX_WAITING + 2))
        opened.set()
        maker.join(30)
    assert made == MAX_WAITING + 1  # the next is not made before the disk has taken one
    assert not waiting
