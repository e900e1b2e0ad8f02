"""`python -m voicecosts` is the command `costs`."""

from voicecosts.analytics.app import main

main()
