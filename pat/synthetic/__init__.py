"""People who do not exist, drawn by code: training data without a picture of anybody."""
