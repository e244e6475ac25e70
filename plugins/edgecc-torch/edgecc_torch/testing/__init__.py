"""What the plugin's tests share."""
