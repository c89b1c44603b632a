"""Schedules that keep their own time: when they are due, and the thread that fires them."""
