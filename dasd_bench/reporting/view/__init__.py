"""``dasd-bench view``: runs in a browser, from a server on this machine that only its own page can read."""
