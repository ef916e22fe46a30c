"""An image for people: facts read off a task, and the tree, the table and the page that show them."""
