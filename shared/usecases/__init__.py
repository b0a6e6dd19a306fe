"""What is done for a request, a report or a moment: load, decide, commit, hand over; and what people ask for."""
