"""What every storage promises, checked against each of them."""
