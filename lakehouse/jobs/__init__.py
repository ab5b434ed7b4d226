"""What is done elsewhere than on the event loop: jobs that name what they need by keys of the store, and who runs them."""
