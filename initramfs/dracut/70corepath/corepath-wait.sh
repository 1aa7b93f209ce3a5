#!/bin/sh
# Root's own map, and nothing else, must be live before root is mounted.
corepath boot --cmdline
