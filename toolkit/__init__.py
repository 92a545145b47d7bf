"""The core: graphs, costs, budgets, device profiles, search spaces, training and search strategies."""
