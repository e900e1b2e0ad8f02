"""`python -m voicecosts` is the command `costs`."""

from voicecosts.analytics.commands.app import main

main()
