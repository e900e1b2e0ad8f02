"""The command `costs`: one file a command. The only room that may import all three packages."""
