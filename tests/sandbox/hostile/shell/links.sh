# Reaches outside by links.
# expect: passed
ln -s /etc/shadow link; cat link 2> /dev/null && echo BREACH
ln /usr/bin/env hard 2> /dev/null && echo BREACH
ln -sf /usr /tmp/program/usr; touch usr/planted 2> /dev/null && echo BREACH
