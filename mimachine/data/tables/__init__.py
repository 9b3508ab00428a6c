"""Tables of users: columns of numbers, categories, dates and flags, with holes."""
