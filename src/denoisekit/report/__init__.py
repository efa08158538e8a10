"""Pages to judge results by: one HTML file each, that needs nothing but a browser."""
