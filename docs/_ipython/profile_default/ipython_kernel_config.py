"""The kernel of the tutorials listens on this machine alone, and need not warn of it on every page."""

c = get_config()  # noqa: F821 — IPython's own
c.IPKernelApp.log_level = "ERROR"
