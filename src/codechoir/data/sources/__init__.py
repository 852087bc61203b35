"""Where code comes from: archives, folders and tables, as gathered rows."""
