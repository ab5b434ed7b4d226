module lakeflight.dev/sender

go 1.21
