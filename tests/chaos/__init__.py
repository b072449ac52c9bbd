"""The service with everything going wrong at once, and what became of each job."""
