# Reads what the host has.
# expect: passed
(ENV["HOSTILE_PATHS"].split(":") + ["/etc/shadow", "/proc/1/environ"]).each do |path|
  puts "BREACH: " + File.read(path)
rescue SystemCallError
end
puts ENV.to_h
