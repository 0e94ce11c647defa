"""Every kind of damage to a shard of an image store, as functions of the open store."""

import json

from pairscape.pipeline.heatmaps.shards import encode_shard, publish_shard, receipt_file, shard_file


def content(path):
    """Bytes of a file; zarr writes none for a chunk that holds nothing but its fill value."""
    return path.read_bytes() if path.exists() else b""


def truncate(images):
    file = shard_file(images, "counts", 1)
    file.write_bytes(file.read_bytes()[:-7])


def empty(images):
    shard_file(images, "both_zero", 1).write_bytes(b"")


def delete(images):
    shard_file(images, "counts", 1).unlink()


def flip_a_bit(images):
    file = shard_file(images, "counts", 1)
    stored = bytearray(file.read_bytes())
    stored[len(stored) // 2] ^= 1
    file.write_bytes(stored)


def flip_a_bit_of_both_zero(images):
    file = shard_file(images, "both_zero", 1)
    stored = bytearray(file.read_bytes())
    stored[-1] ^= 128
    file.write_bytes(stored)


def swap_with_its_neighbour(images):
    swap(*(shard_file(images, "counts", shard) for shard in (1, 2)))


def swap_receipts(images):
    swap(*(receipt_file(images, shard) for shard in (1, 2)))


def swap_all(images):
    for name in ("counts", "both_zero"):
        swap(*(shard_file(images, name, shard) for shard in (1, 2)))
    swap_receipts(images)


def swap(first, second):
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def tear_the_receipt(images):
    file = receipt_file(images, 1)
    file.write_text(file.read_text()[:40])


def empty_the_receipt(images):
    receipt_file(images, 1).write_text("")


def delete_the_receipt(images):
    receipt_file(images, 1).unlink()


def edit(**changes):
    def edit_receipt(images):
        receipt = json.loads(receipt_file(images, 1).read_text())
        receipt_file(images, 1).write_text(json.dumps({**receipt, **changes}))

    return edit_receipt


def forge(images):
    """Other counts than were computed, with a receipt that fits them: only their sum tells."""
    counts = images.counts(slice(16, 32))
    counts[3, 0, 0] += 1
    counts[4, 0, 0] -= 1
    write_shard(images, 1, counts, images.both_zero(slice(16, 32)))


def write_shard(images, shard, counts, both_zero):
    return publish_shard(images, shard, encode_shard(images, shard, counts, both_zero))


DAMAGES = {
    "truncated": truncate,
    "zero length": empty,
    "deleted": delete,
    "bit flipped": flip_a_bit,
    "bit of both_zero flipped": flip_a_bit_of_both_zero,
    "counts swapped": swap_with_its_neighbour,
    "receipts swapped": swap_receipts,
    "files and receipts swapped": swap_all,
    "receipt torn": tear_the_receipt,
    "receipt empty": empty_the_receipt,
    "receipt deleted": delete_the_receipt,
    "receipt of another plan": edit(plan_hash="0" * 64),
    "receipt of another shard": edit(shard=2),
    "receipt of other rows": edit(rows=[16, 30]),
    "receipt without rows": edit(rows=None),
    "receipt of another total": edit(total=7),
    "receipt of another checksum": edit(both_zero={"bytes": 1, "sha256": "0" * 64}),
    "receipt that describes no file": edit(counts=None),
    "receipt that describes a file by a number": edit(counts=5),
    "receipt without a checksum": edit(counts={"bytes": 1}),
    "counts forged": forge,
}
