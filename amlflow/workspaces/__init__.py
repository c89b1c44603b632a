"""Where runs, models, jobs and endpoints live."""
