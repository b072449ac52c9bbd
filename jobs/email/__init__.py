"""`email.send`: what an e-mail is, and how a mail server is spoken to."""
