"""What goes in and out, one module per noun. Only the API imports them."""
