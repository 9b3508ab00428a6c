"""Tables with missing entries: imputation, conditional sampling, scores of rows."""
