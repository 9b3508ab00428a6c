"""Tables as they are: columns of numbers, dates, flags, categories and text, with holes."""
