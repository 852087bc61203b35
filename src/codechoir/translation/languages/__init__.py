"""The target languages, one class each; `table.py` lists them."""
