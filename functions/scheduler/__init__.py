"""Time: schedules that ring, and the sweep of every minute."""
