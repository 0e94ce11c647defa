"""Expression to codes: one byte a gene and cell, the bin that its value falls into."""
