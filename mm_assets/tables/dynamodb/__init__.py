"""The table in DynamoDB: what an item looks like, publishing, retries, and making the table."""
