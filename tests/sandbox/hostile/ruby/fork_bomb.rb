# Forks for ever.
# expect: time
loop do
  begin
    fork
  rescue SystemCallError, NoMemoryError
  end
end
