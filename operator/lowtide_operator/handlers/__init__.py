"""What kopf does for us: it watches, and reports. The only package that imports kopf."""
