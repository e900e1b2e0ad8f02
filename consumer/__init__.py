"""The ledger: book what workers report, one exact row per difference.

`booking` turns messages into rows and `pricing` rates them, both without I/O; `broker` fetches
messages and `store` writes rows; `consume` and `local` put the four together. Importing the package
loads neither a database nor a broker client.
"""
