"""A bucket with something in it, for tests that begin with one."""


def filled(db, count=1000, size=20, name=b"b"):
    with db.update() as tx:
        bucket = tx.create_bucket_if_not_exists(name)
        for i in range(count):
            bucket.put(b"%06d" % i, bytes([i % 251]) * size)


def put(db, key, value=b"v"):
    with db.update() as tx:
        tx.create_bucket_if_not_exists(b"b")[key] = value


def keys(db):
    with db.view() as tx:
        return list(tx.bucket(b"b"))
