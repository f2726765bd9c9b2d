"""The predecessors' database service, with the import changed: `flush(force=True)` means on the tape."""

from tapedeck.compat import InfluxDBService, OHLCData, TickData

with InfluxDBService() as service:
    service.write_point(TickData(instrument="EURUSD", bid=1.0856, ask=1.0858, base_ccy="EUR", term_ccy="USD"))
    service.write_point(OHLCData(instrument="EURUSD", open=1.085, high=1.086, low=1.0845, close=1.0858, volume=1000000))
    if service.flush(force=True):
        print("written:", service.get_stats()["total_writes"])
