"""Paths and URLs, whole writes, chunks of stores, receipts, locks: what every store stands on."""
