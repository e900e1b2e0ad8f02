"""The page that `costs dashboard` serves: what it asks, how that looks, and the app itself."""
