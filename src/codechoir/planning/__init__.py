"""What a recipe's run will need here, told before it begins: data, toolchains, problems, time, memory and disk."""
