#!/bin/sh
echo "$(cat /usr/share/hello/loud.txt), $NAME! This greeting has $(cat /usr/share/hello/size.txt) bytes."
