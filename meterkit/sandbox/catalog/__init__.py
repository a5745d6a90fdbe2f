"""What is sold, and for how much: products, prices, coupons, promotion codes."""
