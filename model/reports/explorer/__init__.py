"""The explorer: a file of scores in the browser, served to this machine, or a part of it as one page."""
