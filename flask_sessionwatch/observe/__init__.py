"""What happens: stacks, the ledger of what is live, the recorder, the scopes."""
