#!/bin/sh
# A map that queues would hold the shutdown for ever when the SAN is gone.
corepath release
