"""What people and programs call: checks, and documents made from the code."""
