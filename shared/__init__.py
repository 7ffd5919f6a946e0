"""The product: domain rules, use cases, and the adapters behind them."""
