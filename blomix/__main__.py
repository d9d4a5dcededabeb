from blomix.cli import main

main()
