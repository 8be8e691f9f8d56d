"""Files written whole; YAML read strictly."""
