// PocketBase as it comes, for tests: without the stock example's automigrate, which writes files beside the data folder whenever
// a collection changes.
package main

import (
	"log"

	"github.com/pocketbase/pocketbase"
)

func main() {
	if err := pocketbase.New().Start(); err != nil {
		log.Fatal(err)
	}
}
