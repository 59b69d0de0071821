"""What stages say of a result that is bad though it was made: counts, rules and wording."""
