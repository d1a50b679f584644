// Opens a database with real bbolt, perhaps writes, says what is in it, and keeps it
// open for a while.
//
//	holder FILE write|read MILLISECONDS
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
)

func put(tx *bolt.Tx) error {
	bucket, err := tx.CreateBucketIfNotExists([]byte("go"))
	if err != nil {
		return err
	}
	for i := 0; i < 2000; i++ {
		if err := bucket.Put([]byte(fmt.Sprintf("%06d", i)), make([]byte, 100)); err != nil {
			return err
		}
	}
	return nil
}

func show(tx *bolt.Tx) error {
	for err := range tx.Check() {
		fmt.Println("check:", err)
	}
	return tx.ForEach(func(name []byte, bucket *bolt.Bucket) error {
		fmt.Println(string(name), bucket.Stats().KeyN)
		return nil
	})
}

func fail(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	path, write := os.Args[1], os.Args[2] == "write"
	pause, err := strconv.Atoi(os.Args[3])
	fail(err)
	options := &bolt.Options{Timeout: 500 * time.Millisecond, ReadOnly: !write}
	db, err := bolt.Open(path, 0o600, options)
	fail(err)
	if write {
		fail(db.Update(put))
	}
	fail(db.View(show))
	fmt.Println("open")
	time.Sleep(time.Duration(pause) * time.Millisecond)
	fail(db.Close())
}
