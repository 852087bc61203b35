"""Python problems translated into other languages, in MultiPL-E's form."""
