"""What to do next: tests as they are ordered, their information, value, harm, and when to stop."""
