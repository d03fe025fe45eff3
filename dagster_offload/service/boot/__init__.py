"""Starts `up` at boot: `unit` writes the files of systemd and launchd, `manager` installs, shows and removes them."""
