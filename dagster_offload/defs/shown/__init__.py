"""What people see in Dagster's UI: the metadata of events, tables, asset checks and plots."""
